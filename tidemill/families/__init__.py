"""What applications of one kind share: they fill in the middle of the contract."""
