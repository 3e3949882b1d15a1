"""The student acts: it plans, calls tools and answers, under the executor, budgets and schemas of the teacher."""
