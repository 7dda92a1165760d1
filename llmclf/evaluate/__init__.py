"""From probabilities to scores: one evaluator for every way of classifying."""
