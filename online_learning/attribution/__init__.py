"""Attribution: finds the slate that an interaction rewards, and the amount."""
