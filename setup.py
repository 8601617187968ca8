"The package, as described in settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters='=', interpolation=None)
config.read(here / 'settings.ini', encoding='utf-8')
config = config['DEFAULT']
readme = here / 'README.md'
paper = config['paper_requirements'].split()

setup(
    name=config['lib_name'],
    version=config['version'],
    description=config['description'],
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else config['description'],
    long_description_content_type='text/markdown',
    author=config['author'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=config['keywords'],
    packages=find_packages(include=[config['lib_name'], config['lib_name'] + '.*']),
    package_data={config['lib_name']: ['*.json', 'weights/*']},
    python_requires='>=' + config['min_python'],
    install_requires=config['requirements'].split(),
    extras_require={'paper': paper, 'dev': paper + config['dev_requirements'].split()},
    entry_points={'console_scripts': config['console_scripts'].split(),
                  'nbdev': [f'{config["lib_name"]}={config["lib_name"]}._modidx:d']},
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Natural Language :: English',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12)),
    ],
    zip_safe=False,
)
