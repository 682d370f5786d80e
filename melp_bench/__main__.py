"""`python -m melp_bench`, as torchrun and srun start it: the command line."""

from melp_bench.cli import main

if __name__ == "__main__":
    main()
