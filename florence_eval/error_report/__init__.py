"""A page to look at: where a model is wrong, with the pages that it is wrong on.

`report` writes a static site that needs no server and no network:

    report.html                    overview, script, style, and the index of all questions
    report_files/questions/N.js    the texts of PART questions, which register themselves
    report_files/pages/N.jpg       the pages that are asked about, at a bounded size

The texts lie in scripts because a page that was opened as a file may not fetch anything else. With
`single_file` both folders are inside report.html: texts as blocks of JSON, pages as data URIs.

Nothing from the data becomes markup or a name: HTML is escaped, JSON cannot end its script, the
script on the page builds text nodes only, and a Content-Security-Policy lets no other script run
and nothing be loaded from elsewhere.
"""

from florence_eval.error_report.site import Written, report

__all__ = ["Written", "report"]
