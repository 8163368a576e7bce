"""`tidemill up`: the servers, and what keeps them alive."""
