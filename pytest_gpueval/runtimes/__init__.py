"""How samples become predictions. A runtime takes a stream of samples and gives a stream of answers in the same order."""
