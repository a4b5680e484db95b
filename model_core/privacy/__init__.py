"""What a release may say of its users: bounded by differential privacy."""
