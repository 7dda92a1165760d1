"""Classical baselines: the majority class, and TF-IDF with five scikit-learn classifiers."""
