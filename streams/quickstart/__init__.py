"""`slatestream quickstart`: somebody's files to a trained worker; builds on importing and demo."""
