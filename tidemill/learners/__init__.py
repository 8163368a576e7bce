"""How one model is fitted, killed, resumed and saved, whatever the library."""
