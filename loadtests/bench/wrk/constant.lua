-- One code, again and again: the path in wrk's URL. Bounded by wrk's duration.

require("report")
