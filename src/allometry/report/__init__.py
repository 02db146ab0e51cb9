"""Report: posterior to one self-contained page."""

from allometry.report.page import Report, check_page, report, write_report
from allometry.report.planner import Planner, plan

__all__ = ["Planner", "Report", "check_page", "plan", "report", "write_report"]
