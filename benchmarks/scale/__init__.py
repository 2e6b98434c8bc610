"""Means of many archives.

__main__       means held against their goals
averagers      means as people write them today, each in a process of its own
alternatives   measures them beside ours
costs          what an archive and a task of a mean cost
given          limits and prices that nobody measured here, with their sources
tasktimes      what a task takes of its worker and of storage
simulate       means of a million clients, by the real tree and these costs
watching       the peaks of a child process
"""
