"""A student at work, watched: what moved in what a server recorded, since when, how sure that is, and what to do.

Every test is an e-process: its wealth is expected to stay at 1 while nothing has changed, so that it ever reaches 1/a
with probability a at most (Ville 1939), however often somebody looks. Where the formulas come from:

- Signs that need no label are ranked among all before them, and bets are placed on ranks near 0 or 1: conformal test
  martingales (Vovk, Nouretdinov and Gammerman, ICML 2003), restarted as an e-detector (arXiv 2203.03532). That
  machinery is aot.serving.cascade.watch; this room feeds it.
- Labelled answers are bets on the mean of a bounded number against what was promised (Waudby-Smith and Ramdas, JRSS B
  2024, arXiv 2010.09686), with a grid of bets; unlabelled confidences join them as in prediction-powered inference
  (Angelopoulos et al., Science 2023, arXiv 2301.09633; its e-values: Csillag et al. 2025, arXiv 2502.04294).
- Canaries are questions whose answer at export is known. A student is deterministic, so one that was right and is wrong
  is a sign by itself, and one that stays wrong when it is asked again is nearly a proof (aot.drift.bets).
"""
