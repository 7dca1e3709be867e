"""One verb of the command line a module: it reads its options, calls the room, prints what came out."""
