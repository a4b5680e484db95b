"""Files of a stranger's making as records of our topics; imports only what reads settings and publishes."""
