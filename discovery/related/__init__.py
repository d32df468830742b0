"""Related Pins (paper, section 6): candidates from co-occurrence, re-ranked by a linear model.

    features.py    what the model sees of a query and a candidate, with its formulas
    dominant.py    whether a query holds a dominant object
    model.py       the linear model, its file, and the paper's variants
    answers.py     candidates, features, ranking: what the API answers
    examples.py    logged impressions with what people did, as training and evaluation read them
    attribution.py from engagement and save events to examples
    training.py    Rank-SVM on pairs of examples
    evaluation.py  save propensity by replay, per-category gains, bootstrap intervals
    synthetic.py   a made-up log with a known truth, on which the trainer must find it

docs/related.md tells all of it for readers of the paper.
"""
