"""Chat-model clients behind one small protocol; none is built yet, the embedded planner needs none."""
