"use strict";
(() => {
  const root = document.documentElement;

  // A cell holds a part per metric, of which one is shown.
  const shown = (row, index) => row.children[index].querySelector(".m[data-value]:not([hidden])");

  // What a row is sorted by: null sorts last, whichever the direction.
  const valueOf = (row, index, kind) => {
    const text = kind === "score" ? shown(row, index)?.dataset.value : row.children[index].dataset.value;
    if (text === undefined || text === "") return null;
    return kind === "name" ? text : Number(text);
  };

  // A dark line stands between neighbours whose ranks differ in the column that the table is sorted by.
  const cut = (body, index, kind) => {
    const rank = (row) => shown(row, index)?.dataset.rank;
    [...body.rows].forEach((row, i, rows) =>
      row.classList.toggle("cut", kind === "score" && i > 0 && rank(row) !== rank(rows[i - 1])));
  };

  // Where a header's column is: a head of two rows says it.
  const placeOf = (header) =>
    header.dataset.column === undefined ? [...header.parentElement.children].indexOf(header) : Number(header.dataset.column);

  // The direction that puts the best first; names go from A to Z, and of speeds and sizes the largest is first.
  const usual = (table, header) => {
    if (header.dataset.first) return header.dataset.first;
    if (header.dataset.sort === "name") return "ascending";
    const index = placeOf(header);
    const parts = [...table.tBodies[0].rows].map((row) => header.dataset.sort === "score" && shown(row, index));
    return parts.some((part) => part && part.dataset.better === "lower") ? "ascending" : "descending";
  };

  const sort = (table, header, direction) => {
    const index = placeOf(header);
    const kind = header.dataset.sort;
    const sign = direction === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [valueOf(row, index, kind), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (kind === "name" ? a.localeCompare(b) : a - b);
    });
    keyed.forEach(([, row]) => body.append(row));
    for (const other of table.querySelectorAll("thead [aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    cut(body, index, kind);
  };

  const resort = (table) => {
    const header = table.querySelector("thead [aria-sort]");
    if (header) sort(table, header, usual(table, header));
  };

  const tables = [...document.querySelectorAll("table.main, table.overview")];
  for (const table of tables) {
    for (const header of table.querySelectorAll("thead [data-sort]")) {
      header.querySelector("button").addEventListener("click", () => {
        const first = usual(table, header);
        const other = first === "ascending" ? "descending" : "ascending";
        sort(table, header, header.getAttribute("aria-sort") === first ? other : first);
      });
    }
  }

  // Without a choice every column shows the metric that ranks it.
  const choose = (metric) => {
    for (const part of document.querySelectorAll(".m")) {
      part.hidden = metric === "" ? !("primary" in part.dataset) : part.dataset.metric !== metric;
    }
    for (const other of document.querySelectorAll(".otherwise")) {
      other.hidden = other.parentElement.querySelector(".m:not([hidden])") !== null;
    }
  };

  for (const button of document.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => {
      choose(button.dataset.choose);
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

  // Rows and cards of methods whose name holds what is typed.
  const filter = document.querySelector("[data-filter]");
  const found = document.querySelector("[data-found]");
  const named = [...document.querySelectorAll("[data-method]")];
  const narrow = () => {
    const wanted = filter.value.trim().toLocaleLowerCase();
    for (const each of named) each.hidden = !each.dataset.method.toLocaleLowerCase().includes(wanted);
    const all = new Set(named.map((each) => each.dataset.method));
    const left = new Set(named.filter((each) => !each.hidden).map((each) => each.dataset.method));
    found.textContent = wanted === "" ? "" : `${left.size} of ${all.size}`;
  };
  filter.addEventListener("input", narrow);

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
