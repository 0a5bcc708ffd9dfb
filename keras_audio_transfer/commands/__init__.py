"""What the command line does: one module a command, each with `arguments()` and `main(argv)`."""
