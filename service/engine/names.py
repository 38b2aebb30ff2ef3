"""Names for containers whose users give none: two words, as Docker's, ours from the waterside."""

from posix import urandom

_HOW = (  # noqa: SIM905 - two hundred quoted words are harder to read
    "adrift amber ample ancient azure balmy bold brackish brave breezy bright brisk briny calm candid clear "
    "coastal copper coral crisp deep distant eager early ebbing faithful fair feathered fluent foggy frosty "
    "gentle gilded glassy golden grand hardy hazy hidden humble indigo ivory jolly keen kind laden leeward "
    "lively lofty lucid lunar mellow merry misty modest northern nimble noble opal patient pearly placid polar "
    "quick quiet rapid ready restful rolling rustic salty sandy serene sheltered shining silent silver sleek "
    "smooth snug soft solar solid southern spry stalwart starlit steady still stout subtle sunlit sunny swift "
    "tender tidal tidy trim true velvet verdant vivid warm watchful windward winged wise woven zesty"
).split()
_WHAT = (  # noqa: SIM905 - as above
    "albatross anchor anchorage barge barnacle barque bay beacon berth boom bosun bow breakwater brig buoy "
    "cable canal canoe capstan channel cleat cliff coast cockle compass coracle cove cutter delta dinghy dock "
    "dolphin dory driftwood drydock estuary ferry fjord float galleon gangway gull gunwale halyard harbor "
    "harpoon haven hawser headland helm heron hull inlet island jetty kayak keel ketch lagoon landing lantern "
    "ledge lighthouse lock lookout lugger mainsail marina mast mooring narwhal oar osprey otter paddle pelican "
    "pennant petrel pier pilot plover pontoon porpoise port prow punt quay raft reef rigging rudder sandbar "
    "schooner seal sextant shoal shore skiff slipway sloop sound spar spray starfish stern strait tern tide "
    "tiller towpath trawler tugboat wake walrus warp wave wharf whelk wherry winch yacht yawl"
).split()


def draw(attempt: int = 0) -> str:
    """Two words joined by an underscore; a digit follows from the sixth attempt on (most pairs are taken then)."""
    drawn = urandom(3)
    name = f"{_HOW[(drawn[0] << 8 | drawn[1]) % len(_HOW)]}_{_WHAT[(drawn[1] << 8 | drawn[2]) % len(_WHAT)]}"
    return name if attempt < 6 else f"{name}{drawn[0] % 10 + (attempt - 6) * 10}"
