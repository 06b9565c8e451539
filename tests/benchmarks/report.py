def machine(): return {}
def text(r):
    out=[]
    for m in r["measured"]:
        out.append(f"{m['case']:8}{m['step']:24}{m['contender']:20.20}{m['delay']:5}{m['seconds']:8.3f} {m['peak']/1e6:6.0f} {m['first_byte'] or 0:6.3f} {m['hub_requests']:4} {m['cas_requests']:5} {m['commits']:3} {m['bytes_in']/1e6:.1f} {m['bytes_out']/1e6:.1f}")
    return "\n".join(out)
def targets(r): return []
