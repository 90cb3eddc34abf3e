"""What to do for a use case, with which recipe, and why: rules that each name their source."""

from shared.advice.advise import Advice, AdviceRequest, advise
from shared.advice.profile import UseCase, parse_use_case

__all__ = ["Advice", "AdviceRequest", "UseCase", "advise", "parse_use_case"]
