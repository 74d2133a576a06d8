"""`python -m polyclinic` is the command line."""

from polyclinic.app.cli import main

main()
