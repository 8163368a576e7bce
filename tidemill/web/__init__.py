"""What collecting and cleaning both ask of a page: charset, robots, opt-out, addresses."""
