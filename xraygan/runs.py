"""A run as notebook 1 left it: where its files are, what it decided, its images and their split."""

import json
from dataclasses import dataclass

import pandas as pd

import utils
from xraygan import record, settings, sources, split


@dataclass(frozen=True)
class Run:
    """What notebooks 2 and 3 and every training of a study start from.

    Attributes:
        folders: `utils.RunFolders`.
        notes: the record, a dict.
        everything: `sources.ImageSet` of all classes, those of the second comparison too.
        images: the same of the run's own classes.
        parts: the split of the run's own classes, a table of file, class, part and group.
    """

    folders: utils.RunFolders
    notes: dict
    everything: sources.ImageSet
    images: sources.ImageSet
    parts: pd.DataFrame

    @property
    def source(self):
        return self.images.source

    def require_settings(self, profile, machine):
        """Stop where notebook 1 ran with other settings: what it trained couldn't be compared with what comes now.

        Args:
            profile: `settings.Profile`.
            machine: what `backend.configure` chose.

        Raises:
            ValueError: a number of the profile or the precision differs.
        """
        asked, noted = json.loads(json.dumps(vars(profile))), self.notes["profile"]
        changed = [key for key in asked if asked[key] != noted[key]]
        if changed:
            raise ValueError(
                f"PROFILE differs from notebook 1's ({noted['name']!r}) in {', '.join(changed)}: give all three notebooks the same, or run notebook 1 again."
            )
        precision = record.precision_of(self.notes)
        if machine["precision"] != precision:
            raise ValueError(
                f"notebook 1 ran in {precision}, and this is {machine['precision']}: set PRECISION = {precision!r} here, or choose another RUN for all three."
            )

    def select(self, part, classes):
        """The images of some classes in one part, `uint8 (N, 128, 128, 1)`, in the split's order."""
        return split.select(self.images, self.parts, part, classes)


def folders_of(data, profile, run):
    """The folders of a run, named or not."""
    return utils.run_folders(settings.run_name(run, sources.find_source(data).name, profile))


def open_run(data, folders):
    """Read what notebook 1 decided, and the images again.

    Raises:
        FileNotFoundError: notebook 1 hasn't been run.
        ValueError: the images are no longer the ones it saw.
    """
    notes = record.read_record(folders)
    source = sources.find_source(data, ",".join(notes["classes"] + notes["also"]), notes["minority"])
    everything = sources.read_images(source)
    record.require_same_data(notes, everything)
    parts = split.read_split(folders)
    own = parts[parts["class"].isin(notes["classes"])]
    return Run(folders, notes, everything, everything.of(notes["classes"], notes["minority"]), own)
