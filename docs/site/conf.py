# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of Sphinx for the documentation site."""

from __future__ import annotations

from docutils import nodes

project = "devpi.mirror"
project_copyright = "the devpi.mirror authors"
html_title = html_short_title = "devpi.mirror"
html_theme = "sphinx_ansible_theme"
html_copy_source = False
extensions = ["myst_parser", "sphinx_antsibull_ext"]
include_patterns = ["index.md", "*.md", "docs/*.md", "roles/*/README.md", "reference/**"]
pygments_style = "ansible"
# Links to headings work as on GitHub.
myst_heading_anchors = 4

# Pages of Ansible's documentation, to which antsibull-docs refers. Sphinx's intersphinx would need the network.
ANSIBLE_PAGES = {
    "ansible_configuration_settings": "config",
    "common_return_values": "common_return_values",
}


def link_to_ansible(_app, _env, node, content):
    """Return a link to a page of Ansible's documentation, or None if the reference is not to one."""
    page = ANSIBLE_PAGES.get(node["reftarget"])
    if not page:
        return None
    url = f"https://docs.ansible.com/ansible/latest/reference_appendices/{page}.html"
    return nodes.reference("", "", content, internal=False, refuri=url)


def setup(app):
    app.connect("missing-reference", link_to_ansible)
