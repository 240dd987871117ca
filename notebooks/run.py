"""Run the three notebooks top to bottom, as `make study` does; print the table and where everything is.

python notebooks/run.py --data ../xrays --profile quick
python notebooks/run.py --clean --run phantom-quick
python notebooks/run.py --refresh      # run on the phantom and put the outputs into the committed notebooks
"""

import argparse
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xraygan import processes

if __name__ == "__main__":
    processes.start_clean()  # before any other package is imported: it may be another program's

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from xraygan import disk, run
from xraygan.comparison import metrics, profile
from xraygan.data import csv_tables, imported, sources

NOTEBOOKS = FIRST, SECOND, THIRD = tuple(Path(name).stem for name in run.NOTEBOOKS)
PARAMETERS = {  # {name: (the notebooks that take it, what it says)}; what a notebook doesn't take it reads in the run's record
    "DATA": (
        NOTEBOOKS,
        "folder of images, CSV of labels, 'kaggle' or 'phantom'; by default data/chest_xray if it's there, else the phantom",
    ),
    "PROFILE": (NOTEBOOKS, "quick, study or full, or the path of a YAML file with the same keys; by default quick"),
    "RUN": (NOTEBOOKS, "name of the run's folders; by default SOURCE-PROFILE"),
    "CLASSES": ((FIRST,), "comma-separated class folders; by default NORMAL,COVID19 if both exist, else all"),
    "MINORITY": ((FIRST,), "the class to augment; by default the smallest"),
    "ALSO": ((FIRST,), "further class folders for a second comparison that tells them apart too, e.g. PNEUMONIA"),
    "GROUPS": ((FIRST,), "CSV with columns file and group (patients), kept together in the split"),
    "CLASSIFIER": ((FIRST,), "a name in xraygan/comparison/classifier.py, NETWORKS; by default the original study's CNN"),
    "TEST_SHARE": (
        (FIRST,),
        "share of all images that is drawn for the test, by patient, anew for each replicate; by default the test folder is taken",
    ),
    "GAN_RECIPE": ((SECOND,), "a name in xraygan/gan/recipe.py, RECIPES; by default dcgan"),
    "FAKES": (
        (SECOND,),
        "folder of fakes that another tool made, or of the folders 0, 1, … of them, one for each replicate: then no GAN is trained",
    ),
    "SWEEPS": ((THIRD,), "yes or no: also try other numbers of fakes (hours more)"),
    "SCHEDULER": (
        (THIRD,),
        "address of a Dask scheduler, tcp://…, whose workers see the same folders; by default the local cores",
    ),
}
SWEEPS = ("fakes", "real")
YES, NO = ("1", "yes", "true", "on"), ("", "0", "no", "false", "off")
LONG_LINES_WRAP = ".highlight pre {white-space: pre-wrap}"  # else a page cuts them at its edge


def main():
    options = parse_arguments()
    try:
        if options.clean:
            clean(options.run)
        else:
            run_notebooks(options)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))


def run_notebooks(options):
    """Check what was asked for before anything is done, then do it."""
    size = profile.load_profile(options.profile)
    source = sources.find_source(options.data, options.classes, options.minority)
    also = sources.add_classes(source, options.also).classes[len(source.classes) :]
    check_generator(options, source, size)
    folders = run.name_folders(run.choose_name(options.run, source.name, options.profile))
    parameters = choose_parameters(options, source)
    if options.scheduler:
        with processes.connected(options.scheduler):
            pass  # known before anything is trained
    names = options.only or (list_needed(folders, options) if options.sweep else NOTEBOOKS)
    if options.sweep == "real" and FIRST in names and not size.scarce_counts:
        raise ValueError(profile.NO_SCARCITY)
    unread = [name for name in list_unread(names) if parameters[name] and not (options.sweep and name == "SCHEDULER")]
    if unread:
        asked = describe_asked(parameters, source.classes, source.minority, also, size)
        require_same(unread, asked, run.read_record(folders))
    if source.is_phantom:
        print("No real images were given: this run uses the phantom: drawings, which are no evidence about medicine.\n")
    with disk.held(folders.results), processes.private_folder() as private:
        for number, name in enumerate(names, start=1):
            print(f"Notebook {number} of {len(names)}: {name}", flush=True)
            executed = execute(name, parameters, folders.results / "notebooks", source, private)
            if options.refresh:
                nbformat.write(without_traces(executed), ROOT / "notebooks" / f"{name}.ipynb")
        if options.sweep:
            run_sweep(options.sweep, source, folders, options)
    summarise(folders)


def check_generator(options, source, size):
    """Stop where GAN_RECIPE or FAKES can't be what the fakes are to come from.

    Raises:
        ValueError: both were given, one isn't there, or FAKES holds too few, or one that can't be read.
    """
    if options.gan_recipe and options.fakes:
        raise ValueError("FAKES and GAN_RECIPE were both given, and with FAKES no GAN is trained: leave one out.")
    if options.gan_recipe:
        size.make_recipe(options.gan_recipe)
    if options.fakes:
        if options.sweep == "real":
            raise ValueError(imported.NOT_FROM_FEW)
        found = imported.find_fakes(imported.find_folder(options.fakes), source.minority, size.num_fakes, size.num_seeds)
        imported.read(found, size.image_size, size.num_fakes)


def choose_parameters(options, source):
    """The values that the notebooks get, {name: value}, where paths are from the notebooks' own folder; an empty value isn't given.

    Raises:
        ValueError: one isn't what it must be.
    """
    parameters = {name: getattr(options, name.lower()) for name in PARAMETERS} | {
        "DATA": options.data if options.data in ("", "kaggle", "phantom") else from_notebooks(source.data),
        "PROFILE": locate_profile(options.profile),
        "GROUPS": options.groups and from_notebooks(csv_tables.find_groups_file(options.groups)),
        "FAKES": options.fakes and from_notebooks(imported.find_folder(options.fakes)),
        "TEST_SHARE": read_share(options.test_share),
        "SWEEPS": read_switch("SWEEPS", options.sweeps),
    }
    require_text(parameters)
    return parameters


def list_unread(names):
    """The parameters that none of these notebooks reads."""
    return [name for name, (readers, _) in PARAMETERS.items() if not set(readers) & set(names) and readers != NOTEBOOKS]


def describe_asked(parameters, classes, minority, also, size):
    """What was asked for, by the parameters' names, in the words of a run's record."""
    recipe = parameters["GAN_RECIPE"] and vars(size.make_recipe(parameters["GAN_RECIPE"]))
    names = {"GROUPS": Path(parameters["GROUPS"]).name, "FAKES": imported.name_folder(Path(parameters["FAKES"]))}
    return parameters | names | {"CLASSES": list(classes), "MINORITY": minority, "ALSO": list(also), "GAN_RECIPE": recipe}


def require_same(names, asked, record):
    """Stop where a parameter was given that no notebook of this call reads, unless the run was made with the same value.

    Args:
        names: of the parameters.
        asked: of `describe_asked`.
        record: the run's.
    """
    made = {
        "CLASSES": record["classes"],
        "MINORITY": record["minority"],
        "ALSO": record["also"],
        "GROUPS": record["groups_file"],
        "CLASSIFIER": record["classifier"]["network"],
        "TEST_SHARE": record["test_share"],
        "GAN_RECIPE": record.get("recipe"),
        "FAKES": record.get("imported", {}).get("name"),
    }
    for name in names:
        is_chosen_now = name == "GAN_RECIPE" and made[name] is None
        if made.get(name) != asked[name] and not is_chosen_now:
            (reader,) = PARAMETERS[name][0]
            but = f", and the run {record['run']} was made with another" if made.get(name) is not None else ""
            raise ValueError(
                f"{name} is for notebook {reader}, which doesn't run now{but}: leave {name} out, or choose a new name with RUN."
            )


def from_notebooks(path):
    """A path as the notebooks, which run in their own folder, find it: relative to that, so that no machine's path is kept."""
    return Path(os.path.relpath(path, ROOT / "notebooks")).as_posix()


def locate_profile(name):
    """A profile as the notebooks find it: the name of one of ours, or the path of the user's own."""
    path = profile.find_profile(name)
    return name if path.parent == profile.PROFILES else from_notebooks(path)


def read_switch(name, text):
    """Whether a parameter says yes.

    Raises:
        ValueError: it says neither yes nor no.
    """
    if text.lower() not in YES + NO:
        raise ValueError(f"{name} is {text!r}; say yes or no.")
    return text.lower() in YES


def read_share(text):
    """The share of the images that is drawn for the test; 0 where none was asked for."""
    try:
        share = float(text or 0)
    except ValueError:
        share = text
    profile.check_parameters(TEST_SHARE=share)
    return share


def require_text(parameters):
    """Stop at what can't be written into a notebook: a path whose bytes are no UTF-8."""
    for name, value in parameters.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} isn't text in UTF-8; give that file or folder a name of plain letters.") from error


def clean(name):
    """Delete a run, or list the runs where none is named."""
    if name:
        freed = run.delete_run(name)
        print(f"Deleted the run {name}: {freed / 1e6:,.0f} MB are free again. Published results and your images are untouched.")
        return
    sizes = run.list_runs()
    print("\n".join(f"{size / 1e6:8,.0f} MB  {run}" for run, size in sizes.items()) or "There are no runs.")
    print("Name the one to delete: make clean RUN=…" if sizes else "")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (_, text) in PARAMETERS.items():
        parser.add_argument(f"--{name.lower().replace('_', '-')}", default="", help=text)
    parser.add_argument("--sweep", choices=SWEEPS, help="run this sweep alone, and of the notebooks only those that it needs")
    parser.add_argument("--only", action="append", choices=NOTEBOOKS, help="run this notebook only; may be given again")
    parser.add_argument("--clean", action="store_true", help="delete the run that --run names; without a name, list the runs")
    parser.add_argument("--refresh", action="store_true", help="also write the executed notebooks over the committed ones")
    options = parser.parse_args()
    options.is_profile_asked = bool(options.profile)
    options.profile = options.profile or "quick"
    return options


def execute(name, parameters, folder, source, private):
    """Execute one notebook with papermill, its progress shown here; returns it and writes .ipynb and .html to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{name}.ipynb"
    try:
        with disk.write_errors_explained(output):
            papermill.execute_notebook(
                literally(ROOT / "notebooks" / f"{name}.ipynb"),
                literally(output),
                parameters={key: value for key, value in parameters.items() if value and name in PARAMETERS[key][0]},
                kernel_name="python3",
                cwd=ROOT / "notebooks",
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                config=Config(
                    KernelManager={"transport": "ipc", "ip": f"{private}/kernel"}
                ),  # on a TCP port others could listen
                extra_arguments=["--IPKernelApp.log_level=50"],  # that it ends with this process is no news
                start_timeout=600,  # seconds; a minute is too short where Python lies on a network's disk
                coalesce_streams=True,  # a progress bar's hundred states become its last
            )
    except PapermillExecutionError as error:
        sys.exit(
            f"\n{name} stopped: {error.evalue}\nThe notebook so far, with the whole traceback: {disk.display_path(output)}"
        )
    except DeadKernelError as error:
        raise RuntimeError(
            f"\n{name} stopped: its process was killed, most often because memory ran out; run this again, it goes on where it was."
        ) from error
    executed = nbformat.read(output, as_version=4)
    page, _ = HTMLExporter().from_notebook_node(executed, resources={"metadata": {"name": source.title(name)}})
    page = page.replace("</head>", f"<style>{LONG_LINES_WRAP}</style></head>", 1)
    with disk.replacing(output.with_suffix(".html")) as draft:
        draft.write_text(page, encoding="utf-8")
    return executed


def literally(path):
    """A path for papermill, which takes braces for places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def without_traces(notebook):
    """The executed notebook as it's committed: no run's metadata, no injected cell, nothing that names a machine."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata}
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    count = 0
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag == "parameters"]
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    if re.search(re.escape(str(ROOT)) + r"|/home/|/root/|/tmp/", nbformat.writes(notebook)):
        sys.exit("an executed notebook holds a path of this machine; it isn't written")
    return notebook


def list_needed(folders, options):
    """The notebooks that a sweep needs and that haven't been run: the first; the second where its fakes are swept or are to be others."""
    try:
        has_fakes = "imported" in run.read_record(folders) or run.is_saved(folders, "dcgan_generator")
        done = {
            FIRST: run.is_saved(folders, "before_gan"),
            SECOND: options.sweep == "real" or (has_fakes and not options.fakes),
        }
    except (FileNotFoundError, ValueError):  # there is no record, or none to rely on
        done = {FIRST: False, SECOND: options.sweep == "real"}
    return [name for name, is_done in done.items() if not is_done]


def run_sweep(name, source, folders, options):
    """Train what a sweep needs, write its table and its figure, print the table."""
    import keras  # here, since TensorFlow takes seconds to load

    from xraygan.comparison import plan, scarcity, study, workers
    from xraygan.report import figures, worth

    record = run.read_record(folders)
    study.require_library(record, keras.config.backend())
    if options.is_profile_asked:
        study.require_profile(record, profile.load_profile(options.profile))
    opened = study.recall_study(str(source.data), folders.run, options.gan_recipe or "dcgan")
    units = plan.plan_fakes_sweep(opened) if name == "fakes" else scarcity.list_units(opened)
    if not units:
        raise ValueError(scarcity.explain_nothing(opened))
    table = workers.train_units(opened, units, options.scheduler)
    print(f"\n{figures.summarise_arms(table, opened.maker).to_string()}")
    if name == "fakes":
        figures.show_fakes_sweep(table, opened)
    elif found := scarcity.summarise(opened):
        worth.show(found, opened)
        print("\n" + worth.describe(found).replace("**", ""))


def summarise(folders):
    """Print the before/after table, unless it's of an earlier baseline or earlier fakes, and where tables, pictures and pages are."""
    if (folders.results / metrics.BEFORE_AFTER).exists():
        try:
            print("\n" + metrics.format_before_after(metrics.read_before_after(folders)).to_string() + "\n")
        except (ValueError, FileNotFoundError) as error:
            print(
                f"\nThe table of before and after isn't shown: {error} Whatever else that notebook wrote is out of date, too.\n"
            )
    for what, path in {
        "notebooks, as pages": folders.results / "notebooks",
        "tables and record": folders.results,
        "pictures": folders.images,
        "models": folders.models,
        "fakes": folders.generated,
    }.items():
        print(f"{what + ':':22}{os.path.relpath(path)}")


if __name__ == "__main__":
    main()
