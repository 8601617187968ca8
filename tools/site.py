"""All notebooks, with the outputs that are committed, as linked pages to read along: `python tools/site.py [--out DIR]`.

Nothing is executed, and a page fetches nothing from the net."""
import argparse
import base64
import configparser
import io
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from readme import directives

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
INDEX = 'nbs/index.ipynb'
GENERATOR = 'signspot tools/site.py'
AS_IT_IS = {'.png', '.jpg', '.svg', '.gif', '.json', '.csv', '.txt', '.pdf', '.html'}   # what a browser shows; other files get .txt


class Problems(Exception):
    "What is wrong with the notebooks, a line for each fault."


# A page

@dataclass
class Page:
    "A notebook, or a Markdown file that a notebook links to."
    source: str                 # from the root, e.g. nbs/paper/table2.ipynb
    group: str                  # heading of the contents under which it stands
    notebook: object            # prepared for nbconvert
    title: str
    note: str                   # a line of HTML under the title
    html: str = ''
    ids: set = field(default_factory=set)
    sections: list = field(default_factory=list)   # (id, text)

    @property
    def place(self) -> str:     # from the site's root, e.g. paper/table2.html
        return re.sub(r'\.(ipynb|md)$', '.html', self.source.removeprefix('nbs/'))


def way(place: str, start: str) -> str:
    "A link from one place of the site to another."
    return quote(os.path.relpath(place, PurePosixPath(start).parent))


def title_of(notebook, source: str) -> str:
    "The first heading."
    text = next((c.source for c in notebook.cells if c.cell_type == 'markdown'), '')
    found = re.search(r'^# +(.+)$', text, re.M)
    return re.sub(r'[`*]', '', found[1]).strip() if found else PurePosixPath(source).name


# Reading

def check_outputs(notebook, source: str):
    "Refuse a notebook that was not executed, or that shows an error."
    code = [c for c in notebook.cells if c.cell_type == 'code']
    if code and not any(c.outputs for c in code): raise Problems(f'{source} has no outputs: execute it, or adopt a rerun with make publish')
    for number, cell in enumerate(code):
        wrong = next((o for o in cell.outputs if o.output_type == 'error'), None)
        if wrong: raise Problems(f'{source}: code cell {number} shows an error ({wrong.ename})')


def dressed(cell):
    "A code cell without nbdev's directives, and with what they say to a reader; None if nothing is left."
    said, tags = directives(cell), cell.metadata.get('tags', [])
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip('\n')
    if 'echo: false' in said: cell.metadata['transient'] = {'remove_source': True}
    kind = 'exported' if {'export', 'exporti', 'exports'} & said else 'parameters' if 'parameters' in tags else 'plain'
    cell.metadata['page'] = {'kind': kind, 'fold': 'helpers of this page' if 'hide' in said else ''}
    return cell if cell.source or cell.outputs else None


def prepared(notebook, source: str):
    "The cells as the site shows them; of the index, those that the README shows."
    cells = [c for c in notebook.cells if source != INDEX or 'hide' not in directives(c)]
    cells = [dressed(c) if c.cell_type == 'code' else c for c in cells]
    notebook.cells = [c for c in cells if c is not None]
    return notebook


def note_on(notebook) -> str:
    "What the edges of code cells mean on this page."
    code = [c for c in notebook.cells if c.cell_type == 'code']
    module = re.findall(r'^#\| *default_exp +(\w+)', '\n'.join(c.source for c in code), re.M)
    if module: return f'<p class="note">The module <code>signspot.{module[0]}</code>: code with a <span class="green">green edge</span> is the library, the rest shows it at work.</p>'
    if not any('parameters' in c.metadata.get('tags', []) for c in code): return ''
    return '<p class="note">A paper notebook: the values in the cell with a <span class="blue">blue edge</span> can be set, with <code>signspot rerun</code> and <code>-p</code>.</p>'


def read(source: str, group: str) -> Page:
    "A page from its file."
    path = ROOT / source
    if path.suffix == '.md': notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding='utf-8'))])
    else:
        try: notebook = nbformat.read(path, as_version=4)
        except Exception as error: raise Problems(f'{source} is not a notebook: {str(error).splitlines()[0]}') from error
        check_outputs(notebook, source)
    note = note_on(notebook)
    return Page(source, group, prepared(notebook, source), title_of(notebook, source), note)


# Order

def reading_order() -> dict[str, str]:  # source -> group
    "The notebooks in the order of the index's table, then those that it does not name."
    try: index = nbformat.read(ROOT / INDEX, as_version=4)
    except OSError as error: raise Problems(f'there is no {INDEX}') from error
    order = {INDEX: ''}
    for line in '\n'.join(c.source for c in index.cells if c.cell_type == 'markdown').splitlines():
        row = re.match(r'\| *(.*?) *\|(.*)\|$', line)
        for link in re.findall(r'\]\(([^)\s]+\.ipynb)\)', row[2]) if row else []: order.setdefault(f'nbs/{link}', row[1])
    missing = [source for source in order if not (ROOT / source).exists()]
    if missing: raise Problems(*(f'{INDEX} names {source}, which is not there' for source in missing))
    there = sorted(p.relative_to(ROOT).as_posix() for folder in ('nbs', 'nbs/paper') for p in (ROOT / folder).glob('[!.]*.ipynb'))
    return order | {source: 'not in the table of the first page' for source in there if source not in order}


# Markdown, formulas

SIZE = 10.8   # points of a formula drawn at 12 that are one em of the text around it


def formula(tex: str, display: bool) -> str:
    "A formula as a picture, so that no page needs MathJax."
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser
    text = f'${" ".join(tex.split())}$'
    if display: text = text.replace('\\frac', '\\dfrac')
    with rc_context({'mathtext.fontset': 'cm', 'svg.hashsalt': 'signspot'}):
        try: width, height, depth, *_ = MathTextParser('path').parse(text, dpi=72, prop=FontProperties(size=12))
        except ValueError as error: raise Problems(f'a formula cannot be drawn: {text}') from error
        figure, drawn = Figure(figsize=(width / 72, height / 72)), io.BytesIO()
        figure.text(0, depth / height, text, fontsize=12)
        figure.savefig(drawn, format='svg', transparent=True, metadata={'Date': None})
    source = base64.b64encode(drawn.getvalue()).decode()
    picture = f'<img class="formula" src="data:image/svg+xml;base64,{source}" alt="{escape(tex.strip())}" style="height: {height / SIZE:.3f}em; vertical-align: {-depth / SIZE:.3f}em"/>'
    return f'<div class="display">{picture}</div>' if display else picture


class Renderer(IPythonRenderer):
    "nbconvert's Markdown, with formulas drawn."
    def inline_math(self, body: str) -> str: return formula(body, display=False)
    def block_math(self, body: str) -> str: return formula(body, display=True)
    def latex_environment(self, name: str, body: str) -> str: raise Problems(f'a formula cannot be drawn: \\begin{{{name}}}; write it between $$')


class Exporter(HTMLExporter):
    """nbconvert's HTML, in our template.

    Code is coloured by Pygments at once and put in at the end: there is much of it, and nothing in it for those who look for links."""
    def default_filters(self):
        yield from super().default_filters()
        yield 'code_later', self.code_later

    def code_later(self, source: str) -> str:
        self.code = [*getattr(self, 'code', []), highlight(source, PythonLexer(), HtmlFormatter())]
        return f'<!--code {len(self.code) - 1}-->'

    def with_code(self, html: str) -> str:
        return re.sub(r'<!--code (\d+)-->', lambda found: self.code[int(found[1])], html)

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        attachments = context.get('cell', {}).get('attachments', {})
        return MarkdownWithMath(renderer=Renderer(escape=False, attachments=attachments, anchor_link_text='#')).render(source)


def exporter() -> Exporter:
    return Exporter(template_name='page', extra_template_basedirs=[str(HERE)], exclude_input_prompt=True, exclude_output_prompt=True)


# Links

@dataclass
class Site:
    "What is known while the pages are made."
    pages: dict[str, Page]                                   # by source
    files: dict[str, str] = field(default_factory=dict)      # place in the site -> source
    problems: list[str] = field(default_factory=list)

    def place_of(self, page: Page, link: str) -> str | None:
        "Where in the site a linked file of the repository lies; notes what has to be copied. None, and a problem, for a link that leads nowhere."
        path = (ROOT / page.source).parent / unquote(link)
        source = os.path.relpath(path, ROOT).replace(os.sep, '/')
        if source == 'README.md': source = INDEX
        if source.startswith('..') or not path.is_file() or (source.endswith('.ipynb') and source not in self.pages):
            self.problems.append(f'{page.source}: the link {link} leads to no file of the repository' if not path.is_file() else f'{page.source}: {link} is no page of the site')
            return None
        if source.endswith('.md') and source not in self.pages: self.pages[source] = read(source, 'besides')
        if source in self.pages: return self.pages[source].place
        place = source if path.suffix.lower() in AS_IT_IS else f'{source}.txt'
        self.files[place] = source
        return place


def relink(site: Site, page: Page, element, name: str):
    "A link as the site needs it."
    link = element[name]
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        if name == 'src' and parts.scheme != 'data': site.problems.append(f'{page.source}: {link} would be fetched from the net')
    elif parts.path:
        place = site.place_of(page, parts.path)
        if place: element[name] = way(place, page.place) + (f'#{parts.fragment}' if parts.fragment else '')


def name_headings(page: Page, text: BeautifulSoup):
    "Unique ids for the headings; those of the second level are the page's sections."
    for heading in text.select('h1[id], h2[id], h3[id], h4[id], h5[id], h6[id]'):
        first, number = heading['id'], 1
        while heading['id'] in page.ids: heading['id'], number = f'{first}-{number + 1}', number + 1
        page.ids.add(heading['id'])
        anchor = heading.select_one('.anchor-link')
        if anchor:
            anchor['href'] = '#' + quote(heading['id'])
            anchor['aria-label'] = 'link to this section'
        if heading.name == 'h2': page.sections.append((heading['id'], heading.get_text().removesuffix('#')))


def convert(site: Site, page: Page, export: Exporter, facts: dict):
    "The page's HTML but for the contents, which need all pages."
    about = facts | {'title': page.title, 'up': '../' * page.place.count('/'), 'made': f'Made from {page.source}; {facts["made"]}'}
    html, _ = export.from_notebook_node(page.notebook, resources={'page': about})
    text = BeautifulSoup(html, 'html.parser')
    name_headings(page, text)
    page.ids |= {element['id'] for element in text.select('[id]')}
    for name in ('href', 'src'):
        for element in text.select(f'article [{name}]'): relink(site, page, element, name)
    for table in text.select('article table'): table.wrap(text.new_tag('div', attrs={'class': 'wide', 'tabindex': '0'}))
    for shown in text.select('.output_text pre'):
        if '\n' not in shown.get_text().strip(): shown['class'] = 'line'
    for picture in text.select('.output_png img, .output_html img'): picture['alt'] = f'What the code above shows ({page.title})'
    below = text.select_one('article blockquote') or text.select_one('article h1')
    if page.note and below: below.insert_after(BeautifulSoup(page.note, 'html.parser'))
    page.html = export.with_code(str(text))


def check_anchors(site: Site):
    "Every #anchor must exist on the page that it is on."
    by_place = {page.place: page for page in site.pages.values()}
    for page in site.pages.values():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]*#[^"]+)"', page.html):
            path, _, anchor = link.partition('#')
            target = os.path.normpath(PurePosixPath(page.place).parent / unquote(path)) if path else page.place
            if not urlsplit(link).scheme and target in by_place and unquote(anchor) not in by_place[target].ids:
                site.problems.append(f'{page.source}: there is no heading #{unquote(anchor)} in {by_place[target].source}')


# Contents

def paper_class(page: Page) -> str:
    return ' paper' if page.source.startswith('nbs/paper/') else ''


def current(page: Page, here: Page) -> str:
    return ' aria-current="page"' if page is here else ''


def entry(page: Page, here: Page) -> str:
    "A line of the contents; the page's own has its sections below."
    sections = ''.join(f'<li><a href="#{quote(name)}">{escape(text)}</a></li>' for name, text in page.sections) if page is here else ''
    return f'<li><a class="entry{paper_class(page)}" href="{way(page.place, here.place)}"{current(page, here)}>{escape(page.title)}</a>' + (f'<ul>{sections}</ul>' if sections else '') + '</li>'


def contents(site: Site, here: Page) -> str:
    "All pages, under the headings of the index's table."
    home, *others = site.pages.values()
    lines, group = [f'<a class="home" href="{way(home.place, here.place)}"{current(home, here)}>{escape(home.title)}</a>'], None
    for page in others:
        if page.group != group: lines.append(('</ul>' if group is not None else '') + f'<h2>{escape(page.group)}</h2><ul>')
        group = page.group
        lines.append(entry(page, here))
    return '\n'.join([*lines, '</ul>'])


def steps(site: Site, here: Page) -> str:
    "To the page before and the page after."
    pages = [None, *site.pages.values(), None]
    number = pages.index(here)
    links = [f'<a rel="{rel}" class="{rel}" href="{way(page.place, here.place)}">{left}<span class="entry{paper_class(page)}">{escape(page.title)}</span>{right}</a>'
             for rel, page, left, right in (('prev', pages[number - 1], '← ', ''), ('next', pages[number + 1], '', ' →')) if page]
    return f'<div class="steps">{"".join(links)}</div>'


# Building

def make() -> Site:
    "All pages, in memory. Raises `Problems`."
    settings = configparser.ConfigParser(delimiters='=', interpolation=None)
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    facts = {'site': settings['DEFAULT']['title'], 'generator': GENERATOR, 'made': f'signspot {settings["DEFAULT"]["version"]}.'}
    site, export, wrong = Site({}), exporter(), []
    for source, group in reading_order().items():
        try: site.pages[source] = read(source, group)
        except Problems as problem: wrong += problem.args
    if wrong: raise Problems(*wrong)
    done = set()
    while todo := [page for source, page in site.pages.items() if source not in done]:   # a page may bring others in
        for page in todo:
            try: convert(site, page, export, facts)
            except Problems as problem: site.problems += [f'{page.source}: {line}' for line in problem.args]
            done.add(page.source)
    check_anchors(site)
    if site.problems: raise Problems(*dict.fromkeys(site.problems))
    return site


def write(site: Site, folder: Path):
    "Pages, style and copied files."
    for page in site.pages.values():
        path = folder / page.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.html.replace('<!--contents-->', contents(site, page), 1).replace('<!--steps-->', steps(site, page)), encoding='utf-8')
    for place, source in site.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, folder / place)
    style = (HERE / 'page' / 'style.css').read_text(encoding='utf-8')
    (folder / 'style.css').write_text(style + HtmlFormatter(style='default').get_style_defs('.highlight') + '\n.highlight { background: var(--wash); }\n', encoding='utf-8')


def is_ours(out: Path) -> bool:
    "May this folder be replaced? Only a site made by this tool, or nothing."
    if not out.exists(): return True
    index = out / 'index.html'
    return out.is_dir() and (not any(out.iterdir()) or (index.is_file() and GENERATOR in index.read_text(encoding='utf-8', errors='replace')[:1000]))


def build(out: Path) -> Site:
    "The whole site, written beside and renamed: what is in place is always whole."
    if not is_ours(out): raise Problems(f'{out} is something else than a site of this tool: it is not replaced')
    site = make()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as beside:
        write(site, Path(beside) / 'new')
        with suppress(FileNotFoundError): out.rename(Path(beside) / 'old')
        (Path(beside) / 'new').rename(out)
    return site


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description='All notebooks as linked pages to read along, with the outputs that are committed.')
    parser.add_argument('--out', type=Path, default=ROOT / 'site', metavar='DIR', help='folder of the site; replaced when the new one is whole (default: site)')
    args = parser.parse_args(argv)
    try: site = build(args.out.absolute())
    except Problems as problems:
        for line in problems.args: print(f'site: {line}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'site: cannot write {args.out}: {error.strerror or error}', file=sys.stderr)
        return 2
    print(f'{len(site.pages)} pages and {len(site.files)} files: {args.out / "index.html"}')
    return 0


if __name__ == '__main__': sys.exit(main())
