"""Off-policy evaluation of `feedback`: what every candidate policy would earn, beside the live one."""
