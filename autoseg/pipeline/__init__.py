"""The story: one function per command, each readable top to bottom.

Each joins the stages and hands records on; none prints. `progress` shows what goes on, reports tell what came of it.
"""
