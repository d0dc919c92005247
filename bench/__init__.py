"""`make bench`: how fast mailsync is, as ratios to what else does such work on the same machine, in the same run."""
