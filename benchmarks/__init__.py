"""What the applications reach, and how we stand beside others."""
