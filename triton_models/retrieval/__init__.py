"""Evaluation of features and codes by retrieval: the protocol of section 4, exact distances, Table 1 with intervals."""
