"""What the steps, the flows and the applications share. The one name that an installed wheel adds."""
