"The notebooks as a site, opened in a real browser: every link leads somewhere, every picture is there, no cell failed, nothing is fetched from the net."
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)
DRIVER = shutil.which('chromedriver')
LOOK = '''
const all = selector => [...document.querySelectorAll(selector)];
return {links: all('[href]').map(a => a.href), ids: all('[id]').map(e => e.id), title: document.title, headings: all('h1').length,
        pictures: all('img').filter(i => !(i.complete && i.naturalWidth > 0)).map(i => (i.getAttribute('src') || '').slice(0, 80)), counted: all('img').length,
        nameless: all('img').filter(i => !i.alt).length,
        errors: all('.output_error').length + all('.output pre').filter(e => e.textContent.includes('Traceback (most recent call last)')).length,
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth, current: all('nav [aria-current=page]').length};'''


def tool():
    "tools/site.py as a module (not by its name, which is that of a module of Python's)."
    sys.path.insert(0, str(ROOT/'tools'))
    try:
        spec = importlib.util.spec_from_file_location('site_tool', ROOT/'tools'/'site.py')
        module = sys.modules['site_tool'] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally: sys.path.remove(str(ROOT/'tools'))
    return module


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    "The site of this repository."
    out = tmp_path_factory.mktemp('site')/'site'
    assert tool().main(['--out', str(out)]) == 0
    return out


@pytest.fixture(scope='module')
def browser():
    "A headless Chromium of its own that finds no other machine."
    webdriver = pytest.importorskip('selenium.webdriver')
    if not (CHROMIUM and DRIVER): pytest.skip('no Chromium with chromedriver is installed here (Debian: apt install chromium chromium-driver)')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in ('headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run', 'disable-background-networking', 'disable-component-update', 'disable-sync',
                     'disable-dev-shm-usage', 'host-resolver-rules=MAP * ~NOTFOUND', f'user-data-dir={profile}'): options.add_argument(f'--{flag}')
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {'width': 390, 'height': 844, 'deviceScaleFactor': 1, 'mobile': False})   # a telephone
        yield driver
        driver.quit()


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob('*.html'))


def look(browser, page: Path) -> dict:
    "What the browser makes of a page."
    browser.get(page.as_uri())
    events = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    requests = [event['params']['request']['url'] for event in events if event['method'] == 'Network.requestWillBeSent']
    complaints = [entry['message'] for entry in browser.get_log('browser') if entry['level'] in ('SEVERE', 'WARNING')]
    return browser.execute_script(LOOK) | {'outside': [url for url in requests if urlsplit(url).scheme in ('http', 'https', 'ws', 'wss') or (urlsplit(url).scheme == 'file' and urlsplit(url).netloc)], 'complaints': complaints}


def broken(link: str, seen: dict[Path, dict]) -> bool:
    "Does a link to a file lead nowhere? Anchors count where the page was looked at."
    parts = urlsplit(link)
    if parts.scheme != 'file': return False
    target = Path(unquote(parts.path))
    return not target.is_file() or bool(parts.fragment and target in seen and unquote(parts.fragment) not in seen[target]['ids'])


def faults(seen: dict[Path, dict]) -> list[str]:
    "Everything that is wrong, a line each."
    said = []
    for page, there in seen.items():
        said += [f'{page.name}: broken link {link}' for link in there['links'] if broken(link, seen)]
        said += [f'{page.name}: missing picture {picture}' for picture in there['pictures']]
        said += [f'{page.name}: fetched from outside {url}' for url in there['outside']]
        said += [f'{page.name}: the console says {line}' for line in there['complaints']]
        said += [f'{page.name}: {what}' for what, wrong in (('an error cell', there['errors']), ('wider than a telephone', there['wide'] > 0), ('a picture without a description', there['nameless']),
                                                           ('an id twice', len(set(there['ids'])) < len(there['ids'])), ('not one title', there['headings'] != 1)) if wrong]
    return said


@pytest.fixture(scope='module')
def seen(site, browser) -> dict[Path, dict]:
    "All pages as the browser sees them."
    return {page: look(browser, page) for page in pages(site)}


def test_every_notebook_is_a_page(site):
    notebooks = {p.relative_to(ROOT/'nbs').with_suffix('.html') for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts}
    assert notebooks <= {p.relative_to(site) for p in pages(site)}


def test_all_pages_are_whole(seen):
    assert faults(seen) == []
    assert sum(page['counted'] for page in seen.values()) > 50, 'pictures were looked at'
    assert all(page['current'] == 1 for page in seen.values()), 'each page is marked in the contents'


def test_one_can_read_from_the_first_page_to_the_last(site, browser, seen):
    "By the links to the next page, through all of them, in the order of the table on the first."
    table = (ROOT/'nbs'/'index.ipynb').read_text()
    order = dict.fromkeys(link.replace('.ipynb', '.html') for row in re.findall(r'"\| .*\|', table[table.index('## Read along'):]) for link in re.findall(r'\]\(([^)]+\.ipynb)\)', row))
    read, page = [], site/'index.html'
    while page:
        read.append(page.relative_to(site).as_posix())
        found = re.search(r'<a rel="next"[^>]*href="([^"]+)"', page.read_text(encoding='utf-8'))
        page = Path(os.path.normpath(page.parent/unquote(found[1]))) if found else None
    assert read[:len(order) + 1] == ['index.html', *order] and set(read) == {p.relative_to(site).as_posix() for p in seen}


def test_the_contents_unfold_on_a_telephone(site, browser):
    browser.get((site/'30_losses.html').as_uri())
    contents = browser.find_element('css selector', 'nav#contents')
    assert not contents.is_displayed()
    browser.find_element('css selector', 'label.menu').click()
    assert contents.is_displayed() and browser.find_element('css selector', 'nav [aria-current=page]').is_displayed()


@pytest.mark.parametrize('inserted, noticed', [
    ('<a href="nowhere.html">here</a>', 'broken link'), ('<a href="#nowhere">below</a>', 'broken link'), ('<a href="01_pose.html#nowhere">there</a>', 'broken link'),
    ('<img src="figures/nowhere.png" alt="x">', 'missing picture'), ('<img src="data:image/png;base64,AAAA" alt="x">', 'missing picture'),
    ('<div class="output_error"><pre>NameError</pre></div>', 'an error cell'), ('<div class="output"><pre>Traceback (most recent call last): ...</pre></div>', 'an error cell'),
    ('<script src="https://cdn.example.org/require.js"></script>', 'fetched from outside'), ('<style>@import "https://fonts.example.org/f.css";</style>', 'fetched from outside'),
    ('<script>console.error("no")</script>', 'the console says'), ('<div style="width: 900px">wide</div>', 'wider than a telephone'),
])
def test_faults_are_noticed(inserted, noticed, site, browser, tmp_path):
    copy = tmp_path/'site'
    for name in ('30_losses.html', '01_pose.html', 'style.css'): (copy/name).parent.mkdir(exist_ok=True), shutil.copy(site/name, copy/name)
    page = copy/'30_losses.html'
    sound = re.sub(r'href="(?!style|#)[^"]*"', 'href="30_losses.html"', page.read_text(encoding='utf-8'))
    page.write_text(sound, encoding='utf-8')
    (copy/'01_pose.html').write_text('<h1 id="a">a</h1>')
    before = {path: look(browser, path) for path in (page, copy/'01_pose.html')}
    assert faults(before) == []
    page.write_text(sound.replace('</article>', inserted + '</article>'), encoding='utf-8')
    found = faults(before | {page: look(browser, page)})
    assert found and any(noticed in line for line in found), found


# What is refused

def cell(source: str, shows: str = 'ok', error: bool = False):
    "A code cell with an output."
    output = nbformat.v4.new_output('error', ename='NameError', evalue='x', traceback=[]) if error else nbformat.v4.new_output('stream', name='stdout', text=shows)
    return nbformat.v4.new_code_cell(source, outputs=[output] if shows else [])


def write(path: Path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)


def prose(text: str):
    return nbformat.v4.new_markdown_cell(text)


@pytest.fixture
def small(tmp_path, monkeypatch):
    "A repository of two notebooks, and the tool for it."
    root = tmp_path/'small'
    write(root/'nbs'/'index.ipynb', prose('# small\n> two\n\n| a | b |\n|---|---|\n| one | [one](00_one.ipynb) |'))
    write(root/'nbs'/'00_one.ipynb', prose('# One\n> a page\n\n## Part (a)\n## Part (a)\ntext $x_i$, [licence](../LICENSE), [back](index.ipynb#small), [part](#Part-(a))'), cell('print("<b>ok</b>")  # $5 & more'))
    (root/'LICENSE').write_text('free')
    shutil.copy(ROOT/'settings.ini', root)
    module = tool()
    monkeypatch.setattr(module, 'ROOT', root)
    return root, module


def test_a_small_site(small):
    root, module = small
    assert module.main(['--out', str(root/'site')]) == 0
    page = (root/'site'/'00_one.html').read_text()
    assert 'href="LICENSE.txt"' in page and 'href="index.html#small"' in page and 'alt="x_i"' in page and 'id="Part-(a)-2"' in page
    assert (root/'site'/'LICENSE.txt').read_text() == 'free' and [p.name for p in root.iterdir() if p.name.startswith('.')] == []
    assert module.main(['--out', str(root/'site')]) == 0, 'its own site is replaced'


@pytest.mark.parametrize('cells, said', [
    ([prose('# Two'), cell('1 + 1', shows='')], 'nbs/01_two.ipynb has no outputs'),
    ([prose('# Two'), cell('x', error=True)], 'nbs/01_two.ipynb: code cell 0 shows an error (NameError)'),
    ([prose('# Two\n[x](02_three.ipynb)'), cell('x')], 'the link 02_three.ipynb leads to no file'),
    ([prose('# Two\n![x](../figures/x.png)'), cell('x')], 'the link ../figures/x.png leads to no file'),
    ([prose('# Two\n[x](../../elsewhere.txt)'), cell('x')], 'the link ../../elsewhere.txt leads to no file'),
    ([prose('# Two\n[x](../nbs)'), cell('x')], 'the link ../nbs leads to no file'),
    ([prose('# Two\n[x](00_one.ipynb#Nowhere)'), cell('x')], 'there is no heading #Nowhere in nbs/00_one.ipynb'),
    ([prose('# Two\n![x](https://example.org/x.png)'), cell('x')], 'https://example.org/x.png would be fetched from the net'),
    ([prose('# Two\n$\\nonsense{x}$'), cell('x')], 'a formula cannot be drawn: $\\nonsense{x}$'),
], ids=['not executed', 'error', 'page', 'picture', 'outside', 'folder', 'anchor', 'net', 'formula'])
def test_what_is_wrong_is_one_line_and_the_old_site_stays(cells, said, small, capsys):
    root, module = small
    assert module.main(['--out', str(root/'site')]) == 0
    before = {path: path.read_bytes() for path in (root/'site').rglob('*') if path.is_file()}
    capsys.readouterr()
    write(root/'nbs'/'01_two.ipynb', *cells)
    assert module.main(['--out', str(root/'site')]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('site: ') and err.count('\n') == 1 and said in err
    assert {path: path.read_bytes() for path in (root/'site').rglob('*') if path.is_file()} == before


def test_a_folder_that_is_no_site_is_not_replaced(small, capsys):
    root, module = small
    (root/'thesis').mkdir()
    (root/'thesis'/'chapter.txt').write_text('years of work')
    for out in (root/'thesis', root/'LICENSE', root): assert module.main(['--out', str(out)]) == 2
    assert capsys.readouterr().err.count('not replaced') == 3 and (root/'thesis'/'chapter.txt').exists()
