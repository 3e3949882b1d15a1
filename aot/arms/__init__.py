"""What each arm of a run learns from: kept chains, damaged ones, the student's own, ways of answering."""
