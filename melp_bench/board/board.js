"use strict";
(() => {
  const root = document.documentElement;
  const metric = () => root.dataset.metric;

  // What a row is sorted by: null sorts last, whichever the direction.
  const valueOf = (row, index, kind) => {
    const cell = row.children[index];
    const text = kind === "score" ? cell.dataset[metric()] : cell.dataset.value;
    if (text === undefined || text === "") return null;
    return kind === "name" ? text : Number(text);
  };

  // A dark line stands between neighbours whose ranks differ in the column that the table is sorted by.
  const cut = (body, index, kind) => {
    const rank = (row) => row.children[index].dataset[metric() + "Rank"];
    [...body.rows].forEach((row, i, rows) =>
      row.classList.toggle("cut", kind === "score" && i > 0 && rank(row) !== rank(rows[i - 1])));
  };

  const sort = (table, header, direction) => {
    const index = [...header.parentElement.children].indexOf(header);
    const kind = header.dataset.sort;
    const sign = direction === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [valueOf(row, index, kind), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (kind === "name" ? a.localeCompare(b) : a - b);
    });
    keyed.forEach(([, row]) => body.append(row));
    for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    cut(body, index, kind);
  };

  const resort = (table) => {
    const header = table.querySelector("thead [aria-sort]");
    if (header) sort(table, header, header.getAttribute("aria-sort"));
  };

  const tables = [...document.querySelectorAll("table.main")];
  for (const table of tables) {
    for (const header of table.querySelectorAll("thead [data-sort]")) {
      header.querySelector("button").addEventListener("click", () => {
        const usual = header.dataset.sort === "name" ? "ascending" : "descending";
        const other = usual === "ascending" ? "descending" : "ascending";
        sort(table, header, header.getAttribute("aria-sort") === usual ? other : usual);
      });
    }
  }

  for (const button of document.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => {
      root.dataset.metric = button.dataset.choose;
      for (const each of document.querySelectorAll("[data-choose]")) {
        each.setAttribute("aria-pressed", String(each === button));
      }
      tables.forEach(resort);
    });
  }

  for (const box of document.querySelectorAll("[data-show]")) {
    const apply = () => root.toggleAttribute("data-show-" + box.dataset.show, box.checked);
    box.addEventListener("change", apply);
    apply();
  }

  // A link to a method opens its card.
  const open = () => {
    const card = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (card && card.tagName === "DETAILS") {
      card.open = true;
      card.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  for (const link of document.querySelectorAll('tbody a[href^="#"]')) link.addEventListener("click", () => setTimeout(open));
  open();
  tables.forEach(resort);
})();
