"""The text that the tiny model's tokenizer is trained on: common words in random order, by a seeded generator."""

import random
from collections.abc import Iterator

_TEXT = """
a about account address after again all also always am an and answer any anything are as ask at away back bag bank be
because been before begin best better big bill bit black blue book bought box bread bring bus but buy by call came can
cancel cannot car card case cat chair change check city clean clear close coat code coffee cold come company computer
copy cost could country day dear delivery did different do does dog done door down download each early eat email end
enough even every excuse eye fail family far fast father few find first five fix floor food for found four friend from
full gave get give glad go gone good got great green half hand happen hard has have he head hear hello help her here hi
him his hold home hope hot hour house how I if in intent invoice is issue it item its job just keep key kind know lamp
large last late learn leave left letter life light like line list little live lock log login long look lost low machine
made mail make many may me mean message middle mind minute mistake money month more morning most mother move much music
must my name near need never new next nice night no not nothing now number of off often old on once one only open or
order other our out over own paid paper park part password pay people phone picture place please point possible post
price print problem profile promise put question quick quite rain read ready reason receipt receive red refund remember
reset return right road room rule run said same saw say school second see sell send sent set seven shall she ship shirt
shoe shop short should show sign since six sleep slow small so some something soon sorry start station status still
stop store story street strong such sun sure system table take talk tea team tell ten than thank that the their them
then there these they thing think this those three through time to today together told tomorrow too took top town train
travel tree try turn two under until up update urgent us use very wait walk wallet want warm was watch water way we
week well went were what when where which while white who why will window wish with word work world would write wrong
year yes yesterday yet you young your
Monday Tuesday Wednesday Thursday Friday Saturday Sunday January March April May June July August October November
"""
_WORDS = _TEXT.split()
_MARKS = (".", "?", "!", ",", ":", ";")


def sentences(seed: int, count: int) -> Iterator[str]:
    """`count` lines of 4 to 12 words."""
    stream = random.Random(seed)  # noqa: S311 - text, not secrets
    for _ in range(count):
        words = stream.sample(_WORDS, stream.randint(4, 12))
        words[0] = words[0].capitalize()
        yield " ".join(words[:2]) + stream.choice(_MARKS) + " " + " ".join(words[2:]) + stream.choice(_MARKS)
