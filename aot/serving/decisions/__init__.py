"""Decisions: typed questions with a probability for each allowed answer, in Python and over HTTP; nothing is written.

`decider.Decider` decides about a state, `questions` makes what it is asked, `api` has the routes `/v1/decide` and
`/v1/systemone`.
"""
