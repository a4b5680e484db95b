"""How good a release is: ranking metrics by slices and with intervals."""
