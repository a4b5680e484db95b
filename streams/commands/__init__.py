"""The commands of `slatestream` that are not a subject of their own."""
