"""Dead letters as a person meets them: to be listed, looked at, mended and replayed."""
