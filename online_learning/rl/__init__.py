"""Deep reinforcement learning of slates: what an item is worth now, and what it leads to.

A state is what the policy sees of all candidates, an action an item that it shows. Every learner scores
candidates one by one, by a network of two outputs, so candidates may change from request to request. All
learners are served by one policy, `online_learning.policies.rl_policy`, which does without torch.
"""
