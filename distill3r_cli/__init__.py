"""The command line of distill3r: it parses, calls the core and shows what came back."""
