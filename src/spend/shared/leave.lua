-- A gateway that stops in order leaves: what it has open is given up at once.

call('HDEL', key('replicas'), request.replica)
call('SUNIONSTORE', key('orphans'), key('orphans'), key('held', request.replica))
call('DEL', key('held', request.replica), key('reply', request.replica))
return '{}'
