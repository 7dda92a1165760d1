"""Classifying without training: texts compared with what labels mean, by a frozen encoder."""
