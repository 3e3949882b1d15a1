"""The processes of one training: how they are started, meet, share weights, and are told apart when one is lost."""
