"""What requests and answers look like, as counts in buckets: the reference that live traffic is compared with.

data_ingest makes a `ReferenceProfile` of every dataset version, the evaluation one of a candidate's answers, and the
drift service puts live samples into the same buckets. Pure, without dependencies, and the same to the bit everywhere,
because a profile is part of a content-addressed artifact.
"""

from shared.profiles.output import OUTPUT_FEATURES, output_counts, place_answer
from shared.profiles.reference import INPUT_FEATURES, PROFILE_FILE, ProfileBuilder, ReferenceProfile, last_question

__all__ = [
    "INPUT_FEATURES",
    "OUTPUT_FEATURES",
    "PROFILE_FILE",
    "ProfileBuilder",
    "ReferenceProfile",
    "last_question",
    "output_counts",
    "place_answer",
]
