"""The report as a PDF page, with key images."""

from polyclinic.edges.report_pdf.key_images import key_image_png
from polyclinic.edges.report_pdf.renderer import ReportImage, render_report_pdf

__all__ = ["ReportImage", "key_image_png", "render_report_pdf"]
