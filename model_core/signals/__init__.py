"""What counting says of an item for a user: co-visits, popularity, EASE, and how new items come by them."""
