"""`python -m skipwise`: the command line, in the form that torchrun starts."""

from skipwise.cli.main import main

main()
