"""Networks that turn a picture into features and codes: the paper's (section 4) and the light one that is served."""
