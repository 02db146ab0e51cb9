"""Report: posterior to one self-contained page."""

from allometry.report.page import Report, check_page, report, write_report
from allometry.report.planner import Planner, plan, with_contexts

__all__ = ["Planner", "Report", "check_page", "plan", "report", "with_contexts", "write_report"]
